"""What two versions of a project's source say of a migration."""
