"""What runs on this host: single services, and `ffrtmp up` with all of them."""
