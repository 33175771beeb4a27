"""What a bundle holds, and what it says of itself: manifest, records, golden cases, tensors, schema."""
