"""The verbs of a pipeline that train nothing, one file each; every objective is a verb beside them."""
