"""What members are ranked by; one file each, chosen by a file of conf/criterion."""
