"""What is removed: single weights, filters, features; one file each, chosen by a file of conf/granularity."""
