"""Usage to money: pure, in integers; whoever calls brings the rows and the price books."""
