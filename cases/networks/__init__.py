"""Published networks, assembled from the operators: they give workloads and check costs against papers."""
