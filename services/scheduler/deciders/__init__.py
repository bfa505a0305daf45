"""What each command decides on the state it meets: pure, one module an entity."""
