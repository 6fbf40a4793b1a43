"""How files come to be, and what is made sure before they are believed."""
