"""What runs operators: catalogue, inputs, agreement, proof, measurement."""
