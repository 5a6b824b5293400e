"""Raw data set -> WebDataset shards. Free of torch: ``import webdataset`` would pull it in."""
