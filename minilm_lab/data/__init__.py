"""Files and hubs -> splits; text -> token blocks; which sample comes when."""
