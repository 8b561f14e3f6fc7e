"""Networks, planted zeros, an oracle and the equality check that the tests share."""
