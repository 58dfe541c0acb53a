"""What a user wrote, checked: a study file, its scale, its settings; nothing is planned here."""
