"""ONNX files: read as data, and run node by node by functions of torch, under the names that the nodes have."""
