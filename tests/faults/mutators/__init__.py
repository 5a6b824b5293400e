"""What makes a bad input of a good one: pure functions of its bytes and of a dice by seed."""
