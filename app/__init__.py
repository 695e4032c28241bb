"""The web server and the command line of Saefari."""
