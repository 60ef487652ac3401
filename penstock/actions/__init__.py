"""What somebody asks for: authorise, check, one transaction."""
