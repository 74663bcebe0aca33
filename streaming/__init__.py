"""The conversation itself, sans-I/O: audio, turns, playout, the session and its wire formats.

Nothing here reads a clock, a socket, the environment or a random source. Time comes in as integer
nanoseconds of a monotonic clock; audio positions are sample counts.
"""
