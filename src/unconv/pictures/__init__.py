"""Pictures: files and arrays to tensors and back. The one room that reads what strangers wrote."""
