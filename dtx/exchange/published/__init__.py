"""Files that the MemoryDT studies published, read as data: nothing in them is run or believed unseen."""
