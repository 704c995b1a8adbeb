"""What only uses the public interface: books, tables, dialogues, subtitles, pictures."""
