"""Whatever a file, an option or a server says, a reader takes it or refuses it in one sentence:
tried with inputs that are made from good ones, see __main__.py."""
