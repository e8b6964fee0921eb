"""A page and an HTTP interface around live sessions; needs the extra `serve`."""
