"""What a process does and how it ends: pulse, heartbeat, failure cards, signals."""
