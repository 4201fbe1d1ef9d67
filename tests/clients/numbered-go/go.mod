module numbered

go 1.24
