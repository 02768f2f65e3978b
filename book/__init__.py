"""The book; the package exists so that its tools can import each other."""
