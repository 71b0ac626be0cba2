"""What happens to videos on their way through the internet, in measured steps, and to a detector's scores with them."""
