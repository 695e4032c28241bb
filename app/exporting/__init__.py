"""What leaves the explorer whole: a dump for programs, a site for people."""
