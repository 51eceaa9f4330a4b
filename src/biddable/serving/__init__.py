"""Put a model to use: answer a prompt. Knows data and models; never training."""
