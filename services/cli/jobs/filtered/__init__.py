"""Jobs by what is true of them: lists, and what is asked of many at once."""
