"""Show what training changed."""
