"""What a Python backend uses to ask the gateway, and how an answer is shown to a person."""
