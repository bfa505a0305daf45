"""From facts to rows: what each fact changes, without a database."""
