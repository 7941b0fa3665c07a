"""Workers: processes that prepare tasks and train populations for one driver, here or elsewhere."""
