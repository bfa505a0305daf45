"""What ends an attempt that would not end by itself: no progress, no time left, too much used.

`watch` is the rules on one attempt, pure; `guard` is the one loop that applies them to all;
`usage` measures; `ending` turns ends into facts.
"""
