"""What the README claims, as commands: speed, memory and quality."""
