"""What validators measured: taken in, kept, averaged."""
