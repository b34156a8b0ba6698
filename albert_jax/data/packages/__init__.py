"""Text of the packages of a Debian-like system, without installing them."""
