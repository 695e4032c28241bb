"""What people write: labels, votes, notes, lists, lenses, links; who they are, and who did what.

`store` is the door, each other module a room: functions that take a transaction of it.
"""
