"""The gateway: sockets, admission, metrics and the driver that runs sessions over them."""
