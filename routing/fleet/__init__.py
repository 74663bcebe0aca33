"""Workers, and the engines that lead to them."""
