"""gRPC server and client."""
