"""What separates the classes of a split without having learnt anything about forgery."""
