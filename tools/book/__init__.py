"Renders the book with pandoc where Quarto is not installed, and checks its sources."
