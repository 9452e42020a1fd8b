"""What happens while weights change."""
