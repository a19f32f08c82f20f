"""What the paper does with a trained DCGAN: walks, arithmetic, features."""
