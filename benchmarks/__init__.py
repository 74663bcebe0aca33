"""What Muse measures itself by; `make bench` runs it all."""
