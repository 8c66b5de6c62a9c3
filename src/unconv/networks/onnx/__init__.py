"""ONNX files: read as data, and run node by node with functions of torch; places have the names of the nodes."""
