"""What runs left, published once: MLflow runs by run key, and the folders that they are made from."""
