"""Image builder: from declarations and locks to OCI image layouts, without running what is inside."""
