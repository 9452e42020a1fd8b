"""One HTML page that tells what runs are, what they reached and what failed; needs no network and no server."""
