"""`python -m minilm_lab COMMAND` is `minilm-lab COMMAND`."""

from minilm_lab.commands.cli import main

if __name__ == "__main__":
    main()
