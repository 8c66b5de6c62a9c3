"""Pictures: files and arrays to tensors and back. The one place that reads pictures that strangers wrote."""
