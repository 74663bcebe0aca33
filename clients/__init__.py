"""The other end of the conversation: the async Python client, the command line and the page."""
