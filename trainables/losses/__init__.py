"""What training minimises: one module per loss, functions of tensors only."""
